"""Models on other machines: exported files, their runtime, streams. What runs on a device needs no PyTorch."""
