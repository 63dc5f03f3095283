raise GeneratorExit("left")
