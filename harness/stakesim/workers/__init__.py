"""Pools of workers that share work: processes of this machine, or a Dask cluster."""
