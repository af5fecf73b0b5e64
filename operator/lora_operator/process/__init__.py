"""What each process of ours is made of: its event loop and how work is sliced on it, its tasks, and serving HTTP."""
