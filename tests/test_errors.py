"""run_main: one line and an exit code, whatever Ctrl-C interrupts."""

import pytest

from t5x_style.errors import UserError, run_main


def test_exit_codes(capsys):
    def wrong(arguments):
        raise UserError("a is\n  wrong; mend it")

    def interrupted(arguments):
        raise KeyboardInterrupt

    def interrupted_import(arguments):  # what a native module makes of it
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            raise ImportError("initialisation failed") from error

    assert run_main(lambda arguments: None, []) == 0
    assert run_main(wrong, []) == 2
    assert capsys.readouterr().err == "error: a is wrong; mend it\n"
    for function in (interrupted, interrupted_import):
        assert run_main(function, []) == 130
        assert capsys.readouterr().err == "interrupted: run the same command again to continue\n"


def test_a_mistake_of_ours_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run_main(lambda arguments: 1 // 0, [])
