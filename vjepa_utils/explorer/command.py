"""`explore`: one HTML page to look around in the latent space of a clip."""
