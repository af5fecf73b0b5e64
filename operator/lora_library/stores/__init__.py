"""Where the bytes are: a folder, a bucket of S3, a container of Azure Blob. The operator reads the same place.

Keys are paths below the library's root:

    objects/OWNER/ID/…                the files of one adapter, and meta.json; never written again
    published/OWNER/MODEL/PART/NAME/  what LoraAdapters name: a copy of the current version
    partials/OWNER/ID/…               pieces of files that come over several requests
    index/OWNER/ID/meta.json          what the database says of an adapter, to make it again
"""
