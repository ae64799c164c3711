"""Programs that write the generated parts of the documentation, run from the project's root folder.

* ``python -m docs.build.write_tables``: tables in README.md and in docs/*.md
* ``python -m docs.build.draw_figure``: docs/figure.svg, the figure of README.md
* ``python -m docs.build.run_notebook``: what the cells of docs/quickstart.ipynb print and draw
* ``python -m docs.build.summarize_run``, ``python -m docs.build.summarize_lm``: results of one run, for docs/results
"""
