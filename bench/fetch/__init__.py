"""What `python -m bench fetch` is made of: large adapters, and processes of their own that fetch them.

`child` is the fetching process, whose memory is measured; `content` writes what is served.
"""
