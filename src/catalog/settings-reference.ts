/** The page `docs/reference/settings.md`, made from the registry. */
import type { SettingScope } from './settings-declared.ts';
import { SETTINGS, type Setting } from './settings-registry.ts';

const SECTIONS: readonly { scope: SettingScope; title: string; text: string }[] = [
  {
    scope: 'application',
    title: 'Application settings',
    text: 'Each virtual cluster has its own value, set by its admins while connected to it, or by the operator with `ALTER VIRTUAL CLUSTER … SET CLUSTER SETTING`, which then wins.',
  },
  {
    scope: 'system-only',
    title: 'System-only settings',
    text: 'One value for the physical cluster, seen and set in the system virtual cluster by its admins.',
  },
  {
    scope: 'system-visible',
    title: 'System-visible settings',
    text: 'Set in the system virtual cluster by its admins, readable in every virtual cluster.',
  },
];

const INTRODUCTION = `# Cluster settings

This page is made from the registry in \`src/catalog/settings-declared.ts\` by \`scripts/generate-settings-reference.ts\`.

\`\`\`sql
SET CLUSTER SETTING name = value;
RESET CLUSTER SETTING name;
SHOW CLUSTER SETTING name [FOR VIRTUAL CLUSTER vc];
SHOW [PUBLIC | ALL] CLUSTER SETTINGS [FOR VIRTUAL CLUSTER vc];
ALTER VIRTUAL CLUSTER vc SET CLUSTER SETTING name = value;
ALTER VIRTUAL CLUSTER vc RESET CLUSTER SETTING name;
\`\`\`

Sizes are written \`'128 MiB'\`, durations \`'5m'\` or \`'1h30m'\`. A setting marked *stored* is kept and shown for compatibility; nothing
in this release acts on it, and setting it says so in a notice. *Sensitive* ones are shown as \`redacted\` to those who may only view
settings, while \`server.redact_sensitive_settings.enabled\`. *Reserved* ones are listed by \`SHOW ALL CLUSTER SETTINGS\` only.
`;

export function settingsReference(): string {
  return [INTRODUCTION, ...SECTIONS.map(sectionText)].join('\n');
}

function sectionText(section: (typeof SECTIONS)[number]): string {
  const rows = SETTINGS.filter((setting) => setting.scope === section.scope).map(rowText);
  return [
    `## ${section.title}\n`,
    `${section.text}\n`,
    '| Setting | Type | Default | Meaning |',
    '|---|---|---|---|',
    ...rows,
    '',
  ].join('\n');
}

function rowText(setting: Setting): string {
  const remarks = [
    setting.visibility === 'reserved' ? 'reserved' : undefined,
    setting.effect === 'stored' ? 'stored' : undefined,
    setting.holds === 'secret' ? 'shown as `redacted`' : undefined,
    setting.holds === 'sensitive' ? 'sensitive' : undefined,
    setting.perVirtualCluster ? 'also per virtual cluster' : undefined,
    setting.atNextStart ? 'effective at the next start of the service' : undefined,
    ...(setting.aliases ?? []).map((alias) => `alias \`${alias}\``),
  ].filter((remark) => remark !== undefined);
  const suffix = remarks.length === 0 ? '' : ` (*${remarks.join(', ')}*)`;
  const kind = setting.type.kind === 'byte_size' ? 'byte size' : setting.type.kind;
  const shown = setting.defaultValue === '' ? 'empty' : `\`${setting.defaultValue}\``;
  return `| \`${setting.name}\` | ${kind} | ${shown} | ${setting.description}${suffix} |`;
}
