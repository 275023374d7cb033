"""The bundle, a folder of programs and all that is known of them: its manifest, and reading and checking its files."""
