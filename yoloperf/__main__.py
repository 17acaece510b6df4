from yoloperf.cli import main

raise SystemExit(main())
