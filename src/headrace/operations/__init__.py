"""Every request to Redis as data: what to run, on which keys, and how to read the answer.

What the modules below define without a leading underscore is to be used from here.
"""

from headrace.operations.consuming import *
from headrace.operations.maintaining import *
from headrace.operations.operating import *
from headrace.operations.producing import *
from headrace.operations.request import *
from headrace.operations.tracking import *
