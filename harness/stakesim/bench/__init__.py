"""`stakesim bench`: how fast all of it is, beside other ways to do the same, in one run on one machine."""
