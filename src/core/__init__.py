"""What every stage stands on: command line, files, parameters, hashes, tables. Knows no image."""
