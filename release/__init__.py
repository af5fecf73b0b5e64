"""What a release consists of beside the image: charts with their image named, and `kubectl lora` for krew.

Each module is a command that runs on any machine; `.github/workflows/release.yaml` only calls them.
"""
