"""The course: profiles, pipeline, runner, reports, site and command line."""
