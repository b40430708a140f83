/**
 * What a starting daemon has to finish: the control plane's records and the directories on disk can disagree when an earlier daemon died
 * between the two, or when the system VC was lost or taken back in time. Pure: what is to be done, nothing of it done.
 */
import type { VirtualClusterId, VirtualClusterName } from '../../base/index.ts';
import { SYSTEM_VIRTUAL_CLUSTER_ID } from '../../base/index.ts';
import type { VirtualClusterRecord } from '../../catalog/index.ts';

/** A virtual cluster's directory, as it describes itself. */
export interface FoundDirectory {
  readonly id: VirtualClusterId;
  readonly name: VirtualClusterName;
}

export type HealingStep =
  /** CREATE died after the directory was made: it is complete. */
  | { readonly kind: 'finish_create'; readonly id: VirtualClusterId }
  /** The record stands for nothing. */
  | { readonly kind: 'forget'; readonly id: VirtualClusterId }
  /** DROP died while the directory was being removed. */
  | { readonly kind: 'finish_removal'; readonly id: VirtualClusterId }
  /** RENAME died before the directory knew. */
  | { readonly kind: 'rename_directory'; readonly id: VirtualClusterId; readonly name: VirtualClusterName }
  /** No record names the directory: it is kept, listed, and not served until the operator says so. */
  | { readonly kind: 'adopt'; readonly id: VirtualClusterId; readonly name: VirtualClusterName }
  /** The data of a virtual cluster is not where it should be; nothing is changed. */
  | { readonly kind: 'report_missing'; readonly id: VirtualClusterId };

export function planHealing(options: {
  records: readonly VirtualClusterRecord[];
  directories: readonly FoundDirectory[];
  /** Virtual clusters that an unfinished job makes: it goes on by itself. */
  inTheMaking?: ReadonlySet<VirtualClusterId>;
}): readonly HealingStep[] {
  const { records, directories, inTheMaking } = options;
  const directoryOf = new Map(directories.map((directory) => [directory.id, directory]));
  const left = (record: VirtualClusterRecord) =>
    record.state.kind === 'adding' && inTheMaking?.has(record.id) === true;
  const steps = records
    // A reader has no directory.
    .filter((record) => !left(record) && (record.readerOf === null || record.state.kind === 'removing'))
    .flatMap((record) => stepsForRecord(record, directoryOf.get(record.id)));
  const known = new Set(records.map((record) => record.id));
  const taken = new Set<string>(records.filter(isInUse).map((record) => record.name));
  for (const { id, name } of directories) {
    if (known.has(id) || id === SYSTEM_VIRTUAL_CLUSTER_ID) continue;
    const adopted = taken.has(name) ? recoveredName(id, taken) : name;
    taken.add(adopted);
    steps.push({ kind: 'adopt', id, name: adopted });
  }
  return steps;
}

function stepsForRecord(record: VirtualClusterRecord, directory: FoundDirectory | undefined): HealingStep[] {
  const { id, name, state } = record;
  switch (state.kind) {
    case 'removing':
      return [{ kind: 'finish_removal', id }];
    case 'adding':
      if (directory === undefined) return [{ kind: 'forget', id }];
      return [{ kind: 'finish_create', id }, ...renameIfNeeded(record, directory)];
    case 'dropped':
      return directory === undefined ? [{ kind: 'forget', id }] : [];
    case 'ready':
      if (directory === undefined) return [{ kind: 'report_missing', id }];
      return renameIfNeeded({ id, name }, directory);
  }
}

function renameIfNeeded(
  record: Pick<VirtualClusterRecord, 'id' | 'name'>,
  directory: FoundDirectory,
): HealingStep[] {
  return directory.name === record.name
    ? []
    : [{ kind: 'rename_directory', id: record.id, name: record.name }];
}

function isInUse(record: VirtualClusterRecord): boolean {
  return record.state.kind === 'adding' || record.state.kind === 'ready';
}

function recoveredName(id: VirtualClusterId, taken: ReadonlySet<string>): VirtualClusterName {
  for (let count = 1; ; count += 1) {
    const name = count === 1 ? `recovered-${id}` : `recovered-${id}-${count}`;
    if (!taken.has(name)) return name as VirtualClusterName;
  }
}
