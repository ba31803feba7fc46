"""``python -m stavatar`` is ``stavatar``, as ``torchrun -m`` wants it."""

from stavatar.cli import main

if __name__ == "__main__":
    main()
