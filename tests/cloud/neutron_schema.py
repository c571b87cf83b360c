# SPDX-License-Identifier: Apache-2.0
"""Make Neutron's tables: neutron_schema.py URL.

From its models, as its tests do: its migrations are for MySQL.
"""

import sys

import sqlalchemy
from neutron.db.migration.models import head

if __name__ == "__main__":
    engine = sqlalchemy.create_engine(sys.argv[1])
    head.get_metadata().create_all(engine)
