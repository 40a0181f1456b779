"""Tables, pictures and one-file HTML reports, made from the files in run folders and nothing else."""
