/** Makes the folder of a new virtual cluster: a copy of the template that is a system of its own. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import {
  AppError,
  type Clock,
  type IncarnationId,
  type Rng,
  type VirtualClusterId,
  type VirtualClusterName,
} from '../base/index.ts';
import { writeConfiguration } from './configuration.ts';
import type { InstanceIdentity, InstanceSettings } from './contract.ts';
import { isPresent, newSystemIdentifier, reidentify } from './data-directory.ts';
import { copyTreeDurably, makeDirectory, type Owner, renameDurably, syncDirectory } from './durable-files.ts';
import type { Engine } from './engine.ts';
import { writeIdentity } from './identity.ts';
import type { Privileges } from './privileges/contract.ts';
import { randomUuid } from './store.ts';
import {
  CONFIGURATION_NAME,
  CREATING_PREFIX,
  clusterLayout,
  randomSuffix,
  type StoreLayout,
} from './store-layout.ts';

/** Beside its data, a virtual cluster's folder holds what its own OS user may read but never change. */
export function rootedAt(user: Owner | null): Owner | null {
  return user === null ? null : { uid: 0, gid: user.gid };
}

/**
 * Everything is made under another name, the identity last, then appears at once by a rename. Durable when it returns.
 * @throws AppError `object_exists`
 */
export async function createClusterDirectory(options: {
  store: StoreLayout;
  template: string;
  engine: Engine;
  id: VirtualClusterId;
  name: VirtualClusterName;
  settings: InstanceSettings;
  privileges: Privileges;
  clock: Clock;
  rng: Rng;
  signal: AbortSignal;
}): Promise<InstanceIdentity> {
  const { store, engine, id, name, privileges, rng, signal } = options;
  const uid = privileges.uidOf(id);
  const user = privileges.ownerOf(uid);
  const layout = clusterLayout(store, id);
  if (await isPresent(layout.directory)) {
    throw new AppError('object_exists', `${layout.directory} exists already`, {
      hint: 'it belongs to a virtual cluster this daemon could not read; see the log of its start',
    });
  }
  const identity: InstanceIdentity = {
    virtualClusterId: id,
    virtualClusterName: name,
    incarnation: randomUuid(rng) as IncarnationId,
    parentIncarnation: null,
    forkLsn: null,
    systemIdentifier: newSystemIdentifier(options),
    engineMajor: engine.major,
    uid,
  };
  const making = join(store.clusters, `${CREATING_PREFIX}${id}-${randomSuffix(rng)}`);
  try {
    await makeDirectory({ path: making, mode: user === null ? 0o700 : 0o710, owner: rootedAt(user) });
    const configuration = join(making, CONFIGURATION_NAME);
    await makeDirectory({ path: configuration, mode: user === null ? 0o700 : 0o750, owner: rootedAt(user) });
    const socketDirectory = layout.sockets;
    await writeConfiguration({
      ...options,
      user,
      directory: configuration,
      clusterName: name,
      socketDirectory,
    });
    const dataDirectory = join(making, identity.incarnation);
    await copyTreeDurably({ from: options.template, to: dataDirectory, owner: user, signal });
    await reidentify({ dataDirectory, systemIdentifier: identity.systemIdentifier, rng });
    await writeIdentity(making, identity);
    await syncDirectory(making);
    await renameDurably({ from: making, to: layout.directory });
  } catch (error) {
    await rm(making, { recursive: true, force: true });
    throw error;
  }
  return identity;
}
