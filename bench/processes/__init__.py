"""Further processes on this machine: how they begin, and that none stays when its parent has died."""
