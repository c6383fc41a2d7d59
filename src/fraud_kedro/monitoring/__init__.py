"""What the prediction log tells: plain functions, run in a process of their own."""
