"""The board: a static site of runs, tables, figures and search trees. It needs no server and nothing from elsewhere."""
