"""From predictions to metrics, intervals, tables and pictures. Knows neither torch nor images."""
