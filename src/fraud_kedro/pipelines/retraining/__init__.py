"""From the decision to train anew to the next champion."""
