"""Teachers, and the loss with which a student learns from them."""
