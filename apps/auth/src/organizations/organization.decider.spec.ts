import { describe, it } from '@jest/globals';
import { deciderSpec } from '@sluice/testing';
import type { OrganizationEvent } from './organization.js';
import { organizationDecider } from './organization.decider.js';

const at = '2026-01-01T00:00:00.000Z';
const created: OrganizationEvent = {
  type: 'OrganizationCreated',
  data: { organizationId: 'o1', name: 'Acme', createdAt: at },
};
const project: OrganizationEvent = { type: 'ProjectCreated', data: { project: 'default', createdAt: at } };
const ensured: OrganizationEvent = {
  type: 'WorkloadEnsured',
  data: { project: 'default', workload: 'chat', model: 'm', ensuredAt: at },
};
const ensure = { type: 'ensure-workload', project: 'default', workload: 'chat', model: 'm', at } as const;

const { given } = deciderSpec(organizationDecider);

describe('an organization', () => {
  it('begins with one project named default', () => {
    given().when({ type: 'create', organizationId: 'o1', name: 'Acme', at }).yields(created, project);
  });

  it('ensures a workload: made, changed, or left as it is', () => {
    given(created, project).when(ensure).yields(ensured);
    given(created, project, ensured).when(ensure).yields();
    given(created, project, ensured)
      .when({ ...ensure, model: 'm2' })
      .yields({ type: 'WorkloadEnsured', data: { project: 'default', workload: 'chat', model: 'm2', ensuredAt: at } });
  });

  it('removes a workload once', () => {
    const remove = { type: 'remove-workload', project: 'default', workload: 'chat', at } as const;
    given(created, project, ensured)
      .when(remove)
      .yields({ type: 'WorkloadRemoved', data: { project: 'default', workload: 'chat', removedAt: at } });
    given(created, project).when(remove).yields();
  });

  it('refuses what belongs to an organization or project that does not exist', () => {
    given().when(ensure).refuses('not_found');
    given(created, project)
      .when({ ...ensure, project: 'other' })
      .refuses('not_found');
  });

  it('is suspended once and resumed once', () => {
    const suspend = { type: 'suspend', reason: 'unpaid', at } as const;
    const suspended: OrganizationEvent = { type: 'OrganizationSuspended', data: { reason: 'unpaid', suspendedAt: at } };
    const resumed: OrganizationEvent = { type: 'OrganizationResumed', data: { resumedAt: at } };
    given(created, project).when(suspend).yields(suspended);
    given(created, project).when({ type: 'resume', at }).yields();
    given(created, project, suspended).when({ type: 'resume', at }).yields(resumed);
    given(created, project, suspended, resumed).when(suspend).yields(suspended);
    given().when(suspend).refuses('not_found');
  });

  it('changes the settings that are given and differ', () => {
    const change = { type: 'change-settings', settings: { immutableKeyNames: true }, at } as const;
    const changed: OrganizationEvent = {
      type: 'SettingsChanged',
      data: { settings: { immutableKeyNames: true }, changedAt: at },
    };
    given(created).when(change).yields(changed);
    given(created, changed).when(change).yields();
    given(created)
      .when({ ...change, settings: {} })
      .yields();
  });
});
