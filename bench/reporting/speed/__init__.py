"""Reports of measured training steps."""
