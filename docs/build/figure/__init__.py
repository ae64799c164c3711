"""The parts of the README's figure; ``docs.build.draw_figure`` puts them together."""
