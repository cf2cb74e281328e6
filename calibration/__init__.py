"""What a calibration projects, as plain data, and the fits of what came back. Owns no device."""
