"""What the prediction log says of the champion: drift."""
