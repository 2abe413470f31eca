"""How good the advisor is: recorded incidents whose truth is known, run through the present engine and scored.

`cases` finds them, `truth` says what really happened, `running` replays them in worker processes, `judging` compares,
`figures` counts, `statistics` holds the arithmetic, `calibration` asks how far the probabilities can be believed, and
`page` and `pictures` draw. Nothing here changes the engine, a weight or a repository. Called by the command line's ``eval``.
"""
