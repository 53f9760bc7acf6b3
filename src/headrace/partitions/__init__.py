"""A queue that is several: its partitions, each a queue of its own, and how they are one to whoever looks.

All that holds of a queue holds of each partition: every transition, the upkeep, plain clients. What is
here says only which partition a job goes to, which ones a consumer takes first, and how many there are.
"""
