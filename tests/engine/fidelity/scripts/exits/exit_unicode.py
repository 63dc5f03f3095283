raise SystemExit("日本 🐧")
