--- apart.lua: keeps what the user's git is told away from the repositories of the tests.
---
--- git tells its hooks where the repository is, and would tell every git that a test runs the same.

for name in pairs(vim.fn.environ()) do
  if vim.startswith(name, 'GIT_') then
    vim.env[name] = nil
  end
end
vim.env.GIT_CONFIG_GLOBAL, vim.env.GIT_CONFIG_NOSYSTEM = '/dev/null', '1'
