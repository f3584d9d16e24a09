"""The migrations: one file per step, each after the one in its `down_revision`."""
