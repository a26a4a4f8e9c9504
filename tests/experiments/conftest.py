"""The tiny study of the tests of studies, for experiments that are one."""

from tests.study.conftest import model as model
from tests.study.conftest import small as small
