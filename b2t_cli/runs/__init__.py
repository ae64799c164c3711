"""A run: its folder, its log, its curves and its model.  Its files have their names in b2t_common.run_folder."""
