"""One file per step, each after the one it names as `down_revision`."""
