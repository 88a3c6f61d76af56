"""`python -m vlpnb …` is `vlpnb …`; so is `torchrun … -m vlpnb stage NAME`."""

from vlpnb.course.cli import main

main()
