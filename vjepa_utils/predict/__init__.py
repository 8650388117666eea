"""What the model predicts of hidden tokens, and what copying would give."""
