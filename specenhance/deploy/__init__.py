"""Models on other machines: export a model to a file, and run that file. Running it needs no PyTorch."""
