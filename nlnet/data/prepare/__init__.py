"""What ``nlnet data`` does to a folder or list of videos before training: one file per verb.

A source is a folder of videos or a list file. Hundreds of thousands of files go through without being held in memory,
and what was done is kept on disk (``ledger``): a verb that is killed and started again goes on.
"""
