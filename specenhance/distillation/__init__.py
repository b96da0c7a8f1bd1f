"""Teachers, and the loss by which a student learns from a teacher."""
