"""What all commands share: options, requests, progress."""
