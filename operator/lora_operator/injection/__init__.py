"""Puts agents into pods that ask for one by a label, where the API server cannot do so itself: a mutating webhook."""
