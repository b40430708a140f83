/** Prints statements on zones and regions. */
import type { RegionAction, Statement, ZoneTarget } from './ast.ts';
import { printAssignment, printPattern, words } from './print-parts.ts';
import { quoteName } from './quote.ts';

type ZoneStatement = Extract<
  Statement,
  {
    kind:
      | 'configure_zone'
      | 'show_zone_configuration'
      | 'show_zone_configurations'
      | 'alter_database_regions'
      | 'show_regions';
  }
>;

export function printZoneStatement(statement: ZoneStatement): string {
  switch (statement.kind) {
    case 'configure_zone': {
      const { target, variables } = statement;
      const how = variables === 'discard' ? 'DISCARD' : `USING ${variables.map(printAssignment).join(', ')}`;
      return `ALTER ${printZoneTarget(target)} CONFIGURE ZONE ${how}`;
    }
    case 'show_zone_configuration':
      return `SHOW ZONE CONFIGURATION FOR ${printZoneTarget(statement.target)}`;
    case 'show_zone_configurations':
      return 'SHOW ZONE CONFIGURATIONS';
    case 'alter_database_regions':
      return `ALTER DATABASE ${quoteName(statement.database)} ${printRegionAction(statement.action)}`;
    case 'show_regions':
      return words('SHOW REGIONS', printFrom(statement.from));
  }
}

/** `RANGE default`, `DATABASE a`, `TABLE a.b.c`: as statements name it. */
export function printZoneTarget(target: ZoneTarget): string {
  switch (target.kind) {
    case 'range':
      return `RANGE ${target.name === 'default' ? target.name : quoteName(target.name)}`;
    case 'database':
      return `DATABASE ${quoteName(target.name)}`;
    case 'table':
      return `TABLE ${printPattern(target.table)}`;
  }
}

function printRegionAction(action: RegionAction): string {
  switch (action.kind) {
    case 'set_primary':
      return `PRIMARY REGION ${quoteName(action.region)}`;
    case 'add':
      return words('ADD REGION', action.ifNotExists && 'IF NOT EXISTS', quoteName(action.region));
    case 'drop':
      return words('DROP REGION', action.ifExists && 'IF EXISTS', quoteName(action.region));
  }
}

function printFrom(from: Extract<ZoneStatement, { kind: 'show_regions' }>['from']): string | undefined {
  switch (from.kind) {
    case 'all':
      return undefined;
    case 'cluster':
      return 'FROM CLUSTER';
    case 'all_databases':
      return 'FROM ALL DATABASES';
    case 'database':
      return words('FROM DATABASE', from.name !== undefined && quoteName(from.name));
  }
}
