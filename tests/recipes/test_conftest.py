import sys


def test_importing_the_recipe_leaves_nothing_behind(scripts, recipe_folder):
    assert str(recipe_folder) not in sys.path
    for name, module in scripts.items():
        assert sys.modules.get(name) is not module
    assert scripts["judge"].split is scripts["split"].split
