raise SystemExit(ValueError("inside"))
