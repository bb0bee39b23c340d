"""Workers for work in many pieces: processes of this machine, or a Dask cluster."""
