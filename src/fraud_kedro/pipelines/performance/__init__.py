"""What labels say of the versions that served."""
