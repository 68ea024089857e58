"""Lane detection: where the lanes of a road run in a frame of a car's camera, measured as TuSimple does."""
