"""The part of the Hugging Face hub's API that its clients use for repositories: an adapter of the library is one.

`push_to_hub` makes a version of it, `from_pretrained` and `snapshot_download` read it back.
"""
