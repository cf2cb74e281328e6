"""Learned sensing and reconstruction: images, masks that learn, networks, training, evaluation."""
